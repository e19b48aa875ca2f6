# edgemtl-runtime for a Jetson, on an image of NVIDIA's with the TensorRT of its JetPack:
#   JetPack 6: docker build -f docker/jetson.Dockerfile --build-arg BASE=IMAGE -t edgemtl-runtime .
#   JetPack 7: the same with --build-arg CUDA_BINDINGS='cuda-bindings>=13,<14'
# IMAGE is l4t-tensorrt in its runtime variant, of the JetPack's release; NVIDIA's catalogue has its full name.
ARG BASE
FROM ${BASE}
ARG CUDA_BINDINGS="cuda-bindings>=12.6,<13"
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        python3-venv python3-gi gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-good \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY runtime/pyproject.toml runtime/README.md runtime/LICENSE runtime/
COPY runtime/edgemtl_runtime runtime/edgemtl_runtime
COPY docker/requirements.py docker/
RUN python3 -m venv --system-site-packages /opt/edgemtl \
    && /opt/edgemtl/bin/pip install --no-cache-dir tomli \
    && /opt/edgemtl/bin/python docker/requirements.py live zenoh sign > requirements.txt \
    && /opt/edgemtl/bin/pip install --no-cache-dir -r requirements.txt "${CUDA_BINDINGS}" \
    && /opt/edgemtl/bin/pip install --no-cache-dir --no-deps ./runtime \
    && rm -rf /src/*
RUN useradd --create-home --groups video robot
USER robot
WORKDIR /data
ENV PATH=/opt/edgemtl/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["edgemtl-runtime"]
CMD ["doctor"]
