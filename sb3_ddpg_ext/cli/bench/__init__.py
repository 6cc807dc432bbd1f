"""Speed, beside other libraries."""
