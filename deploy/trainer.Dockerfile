# train_model.py with the very versions that the service is locked to: a model of another
# scikit-learn would be refused.
FROM python:3.11-slim
ENV HOME=/tmp
WORKDIR /project
COPY requirements-dev.txt .
RUN pip install --no-cache-dir --requirement requirements-dev.txt
COPY train_model.py .
COPY iris_api iris_api
USER nobody
