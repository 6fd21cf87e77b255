# What holds a pod's namespaces open; containerd asks for it by name.
FROM scratch
COPY pause /pause
USER 65535:65535
ENTRYPOINT ["/pause"]
