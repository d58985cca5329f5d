"""The same workloads and faults against real processes."""
