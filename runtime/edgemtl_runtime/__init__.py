"""Run an edgemtl bundle live on paired colour and thermal cameras, without torch."""
