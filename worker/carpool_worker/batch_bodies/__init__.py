"""Bodies of a batch's create, spooled to disk and checked while they arrive: for the gateway and for the simulator."""
