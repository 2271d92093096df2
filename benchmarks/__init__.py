"""What measures pricestack; never imported by it."""
