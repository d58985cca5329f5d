"""The simulated world around the same `Node` that serves for real: virtual time, network, disks, faults."""
