"""The referee: the only package where private images and reconstructions meet."""
