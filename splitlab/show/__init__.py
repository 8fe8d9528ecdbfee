"""What is drawn: figures, a slider through pictures, a stepper through protocols."""
