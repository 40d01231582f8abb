"""Import a registered model from MLflow, through its artifact proxy, into the BentoML store."""

import sys

from iris_api.importing.cli import main

if __name__ == "__main__":
    sys.exit(main())
