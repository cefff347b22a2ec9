//! Turns YAML or JSON text into specs, naming every mistake with its line.
