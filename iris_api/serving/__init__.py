"""What answers over HTTP. Knows neither the registry nor the import."""
