"""Table columns of a catalog: numbers, categories and dates as features."""
