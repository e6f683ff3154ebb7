"""The doctor: checks of the configuration, the machine, the upstreams and the running mirror."""
