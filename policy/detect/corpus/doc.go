// Package corpus makes labelled text to measure detectors by: true identifiers
// of each kind in the places where they are found, identifiers that nothing but
// knowledge of the world could tell, and text that only looks like them. It is
// made up, and the same for the same seed.
package corpus
