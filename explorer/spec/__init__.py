"""What people write and keep, as pydantic models. Imports neither torch, timm, ray nor pandas."""
