package main

import "github.com/spf13/cobra"

func trustProbeCmd() *cobra.Command { return &cobra.Command{Use: "probe"} }
