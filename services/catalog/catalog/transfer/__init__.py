"""The catalog out of and into files: import and export jobs, and the formats that they read and write."""
