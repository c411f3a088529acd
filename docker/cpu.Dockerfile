# The benchmark on CPUs, from a full clone (not a git worktree):
#   docker build -f docker/cpu.Dockerfile -t kd-cpu .
#   docker run --name kd kd-cpu && docker cp kd:/bench/reports .
# Without an index of torch's CPU wheels torch comes with CUDA, which works and is several GB larger:
#   docker build -f docker/cpu.Dockerfile --build-arg PIP_EXTRA_INDEX_URL=... -t kd-cpu .
FROM python:3.11-slim-bookworm

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home bench \
    && install -d -o bench -g bench /bench
USER bench
WORKDIR /bench

# The environment needs these two files alone, so that no other change builds it anew.
COPY --chown=bench:bench requirements.lock Makefile ./
# Without a value the Makefile's own torch.
ARG TORCH
ARG PIP_EXTRA_INDEX_URL=""
ARG PIP_NO_CACHE_DIR=1
RUN make install

COPY --chown=bench:bench . .
# A clone's files may be newer than a layer of the cache, and make goes by the time.
RUN touch -c .venv/.complete
ENV PATH=/bench/.venv/bin:$PATH
CMD ["make", "repro"]
