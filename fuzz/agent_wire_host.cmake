ramet_fuzz_target(agent_wire_host DEPS lib/agent)
