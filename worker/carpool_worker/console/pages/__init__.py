"""The pages, a module each: what its view says goes into its template."""
