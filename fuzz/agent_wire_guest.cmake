ramet_fuzz_target(agent_wire_guest DEPS lib/agent lib/agent/guest)
