package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/reads"
	"sallyport.dev/sallyport/events/recorder"
)

// noteReading puts on the record that a command reads evidence, before it does: in the
// store's folder, or that of what goes with a store in PostgreSQL, or another one.
func noteReading(cmd *cobra.Command, store, state, folder, what string) error {
	if recorder.IsURL(store) {
		store = state
	}
	return reads.Note(cmd.Context(), store, folder, fmt.Sprintf("%s: %s", cmd.CommandPath(), what))
}
