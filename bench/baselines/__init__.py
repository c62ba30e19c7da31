"""What the system is compared with: FastAPI without work, and the simplest design."""
