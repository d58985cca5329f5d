"""The real world around a `Node`: processes, sockets, REST, disks, configuration."""
