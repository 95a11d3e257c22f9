"""Pictures of a prediction: heatmap, outline, panel."""
