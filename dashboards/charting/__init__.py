"""Charts over time and the numbers behind them."""
