"""What brings the service to where it runs: an image, compose, Kubernetes."""
