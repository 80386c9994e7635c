"""What is written about an image: statistics, run-length encodings, COCO documents, polygons."""
