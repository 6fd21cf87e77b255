# The name server of the pods. Runs as root inside its pod only for port 53.
FROM scratch
COPY coredns /coredns
ENTRYPOINT ["/coredns"]
