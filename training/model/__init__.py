"""The model itself: fitted, calibrated, converted, and asked as it will serve."""
