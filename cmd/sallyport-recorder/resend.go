package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/events/sink"
)

func sinkResend() *cobra.Command {
	var o sinkOptions
	var name string
	cmd := &cobra.Command{
		Use:   "resend --config FILE --sink NAME",
		Short: "Hand on again what a target refused",
		Long: `Send one sink again the events that it, or a backfill of it, wrote down because the
target did not take them: after the target was put right. They have the ids with which
they came. How far it came is noted beside the file, and the next resend goes on behind
that; what is refused again is written down in NAME.resend.rejected.jsonl. The sink may
run meanwhile. What no host may publish is counted, and never sent.`,
		Example: `  sallyport-recorder sink resend --config /etc/sallyport/sinks.yaml --sink splunk`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, log, err := o.load()
			if err != nil {
				return err
			}
			for i := range s.Sinks {
				k := &s.Sinks[i]
				if k.Name != name {
					continue
				}
				t, err := sink.Open(k)
				if err != nil {
					return err
				}
				r, err := sink.Resend(cmd.Context(), k, t, s.State, log)
				_, err2 := fmt.Fprintf(cmd.OutOrStdout(), "%d events, %d of them refused again; %d passed over\n", r.Sent, r.Refused, r.Passed)
				return errors.Join(err, t.Close(), err2)
			}
			return usageError{fmt.Errorf("--sink %q: %s has none of that name", name, o.config)}
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&name, "sink", "", "which sink")
	cmd.MarkFlagRequired("sink")
	return cmd
}
