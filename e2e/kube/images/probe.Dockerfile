# The program of the cluster's own test.
FROM scratch
COPY probe /probe
USER 65532:65532
ENTRYPOINT ["/probe"]
