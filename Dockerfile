# The image of every node: Ray, PyTorch with CUDA, open_clip and this package. For cluster.yaml and jobs/rayjob.yaml.
#
#   docker build -t ghcr.io/YOUR-ORG/scclip:0.1.0 . && docker push ghcr.io/YOUR-ORG/scclip:0.1.0
#
# Ray's version must be that of the machine that submits, and of `rayVersion` in jobs/rayjob.yaml.
ARG RAY=2.60.0
FROM rayproject/ray:${RAY}-py311-gpu

ARG RAY
# Triton compiles a small launcher for the GPU's kernels when an actor starts.
RUN sudo apt-get update && sudo apt-get install -y --no-install-recommends gcc libc6-dev && sudo rm -rf /var/lib/apt/lists/*
WORKDIR /home/ray/scclip
COPY --chown=ray:users pyproject.toml README.md LICENSE ./
COPY --chown=ray:users scclip scclip
COPY --chown=ray:users pipeline pipeline
COPY --chown=ray:users jobs jobs
RUN pip install --no-cache-dir "ray[data,default]==${RAY}" ".[s3,gcs]" boto3

ENV RAY_USAGE_STATS_ENABLED=0
# A worker that waits for its next chunk is kept for a minute: Ray ends it after a second, and a new one takes three to start.
ENV RAY_idle_worker_killing_time_threshold_ms=60000
WORKDIR /home/ray
