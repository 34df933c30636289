ramet_fuzz_target(virtio_state DEPS devices/block devices/legacy devices/virtio)
