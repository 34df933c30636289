# An input is a program of steps: of longer ones, ten times slower, a seed or two do.
# fuzz-max-len: 512
ramet_fuzz_target(vsock DEPS devices/vsock)
