# The benchmark on NVIDIA GPUs, from a full clone (not a git worktree):
#   docker build -f docker/cuda.Dockerfile -t kd-cuda .
#   docker run --gpus all --shm-size 16g --name kd -v /path/to/coco:/coco:ro -e KD_COCO=/coco kd-cuda
# The CUDA of the base image must be torch's, by major version: PyPI's torch 2.13.0 is built with 13.0. For another one:
#   --build-arg BASE=nvidia/cuda:<version>-devel-ubuntu24.04 --build-arg PIP_EXTRA_INDEX_URL=<torch's index for it>
ARG BASE=nvidia/cuda:13.0.1-devel-ubuntu24.04
FROM ${BASE}

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git make python3 python3-dev python3-venv \
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
# No GPU is visible to a build, and without one onedl-mmcv compiles no CUDA operators unless forced.
ARG FORCE_CUDA=1
ARG TORCH_CUDA_ARCH_LIST="8.0;8.6;8.9;9.0+PTX"
RUN make install
# Without CUDA operators it would load, and fail in the first step of a run.
RUN .venv/bin/python -c "from mmcv.ops import get_compiling_cuda_version as version; assert version() != 'not available'"

COPY --chown=bench:bench . .
# A clone's files may be newer than a layer of the cache, and make goes by the time.
RUN touch -c .venv/.complete
ENV PATH=/bench/.venv/bin:$PATH
CMD ["make", "repro"]
