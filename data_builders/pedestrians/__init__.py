"""Procedural pedestrians: identities, their walk, cameras and scenes, drawn into tracklets."""
