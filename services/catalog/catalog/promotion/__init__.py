"""What is granted beyond the prices: promotions and their coupons (TMF671)."""
