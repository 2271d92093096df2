"""Why a finished run prices a product as it does."""
