"""The page of the Space: `build.build_page` puts it together from its tabs."""
