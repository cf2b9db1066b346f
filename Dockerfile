# The server: `docker build -t embedrl .`; TORCH may ask for the CPU build: `--build-arg TORCH=torch==VERSION+cpu`, where the index has one.
FROM python:3.12-slim

ARG TORCH=torch
ARG EXTRAS=mcp

RUN useradd --create-home --uid 1000 embedrl && mkdir /library /models && chown embedrl /library /models
WORKDIR /app
# Versions are those that pyproject.toml allows, here and below.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "$TORCH" torchvision
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".[$EXTRAS]"

USER 1000:1000
# Models by hub id are kept here: a volume, so that they are downloaded once.
ENV HF_HOME=/models
VOLUME ["/library", "/models"]
EXPOSE 8000
HEALTHCHECK --start-period=120s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["embedrl"]
# Others than the container itself can reach it, so a token is needed: EMBEDRL_TOKEN.
CMD ["serve", "--index", "/library", "--watch", "--host", "0.0.0.0"]
