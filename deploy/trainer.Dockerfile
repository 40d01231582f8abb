# train_model.py with the locked versions of the service, which rejects models of another
# scikit-learn.
FROM python:3.11-slim
ENV HOME=/tmp
WORKDIR /project
COPY requirements-dev.txt .
RUN pip install --no-cache-dir --requirement requirements-dev.txt
COPY train_model.py .
COPY iris_api iris_api
USER nobody
