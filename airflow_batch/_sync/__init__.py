"""Many campaigns: what is compared and written, the limiter of the requests, and the progress."""
