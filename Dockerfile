# The images of Weir: one static binary each, nothing else, not root.
# The binaries are made by `make dist` beforehand; e2e/kube/image builds a
# target with buildah, and so would any other builder:
#   docker build --target weir -t weir:dev .

FROM scratch AS weir
COPY --chmod=0555 dist/weir /weir
USER 65532:65532
# clients, routes, monitoring, gRPC (Raft and administration)
EXPOSE 4222 6222 8222 4333
ENTRYPOINT ["/weir"]

FROM scratch AS weir-operator
COPY --chmod=0555 dist/weir-operator /weir-operator
USER 65532:65532
ENTRYPOINT ["/weir-operator"]
