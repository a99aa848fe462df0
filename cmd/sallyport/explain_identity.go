package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/intercept/identity"
	"sallyport.dev/sallyport/intercept/privsep"
	"sallyport.dev/sallyport/intercept/redirect"
)

func init() { commands = append(commands, explainIdentityCmd) }

func explainIdentityCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain-identity PID",
		Short: "Say who sallyport would take a process for, and why",
		Long: `Looks at a process as sallyport would if it connected now, and prints who it is
taken for: the workload whose match fits, what its token says, how each name was
proved, and what ties it to the process; or why it would be refused. Claims are
printed with --json only.

It reads the configuration and the token file anew and asks the issuers itself,
so that a change can be tried before it is loaded, and needs no running
sallyport. It needs root. A one-time token is not used up. What only the running
sallyport can prove (SPIFFE) is said by sallyport whoami, inside.

Exit codes: 0 somebody, 1 nobody, 2 bad usage or configuration.`,
		Example: `  sudo sallyport explain-identity 4711
  sudo sallyport explain-identity "$(pgrep -f billing-agent)" --json | jq .claims`,
		Args: exactlyOne("process id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pid, err := strconv.ParseUint(args[0], 10, 31)
			if err != nil || pid == 0 {
				return configError(fmt.Errorf("%q is no process id", args[0]))
			}
			cfg, err := commandConfig(cmd)
			if err != nil {
				return err
			}
			b, err := explainIdentity(cmd.Context(), cfg, int(pid))
			if err != nil {
				return err
			}
			return b.tell(cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, with all claims")
	return cmd
}

// explainIdentity binds a process as the daemon would.
func explainIdentity(ctx context.Context, cfg *config.Config, pid int) (*believed, error) {
	if os.Geteuid() != 0 {
		return nil, &exitError{code: 1, err: errors.New("explain-identity needs root: to read token files and other users' processes"), hint: "run it with sudo"}
	}
	if ctx == nil {
		ctx = context.Background()
	}
	root, err := redirect.Host{}.CgroupRoot()
	if err != nil {
		return nil, err
	}
	p, err := privsep.NewProver(root, new(redirect.Guard).GuardedCgroup(), nil)
	if err != nil {
		return nil, err
	}
	ws, err := provable(cfg)
	if err == nil {
		err = p.SetWorkloads(ws)
	}
	if err != nil {
		return nil, configError(err)
	}
	secrets := map[string]string{}
	for i, is := range cfg.Identity.Issuers {
		if x := is.Exchange; x != nil {
			b, err := readFile(x.SecretFile, maxSecret)
			if err != nil {
				return nil, configError(fmt.Errorf("%s: %w", cfg.At("identity", "issuers", i, "exchange", "secret_file"), err))
			}
			secrets[x.SecretFile] = trimNewline(b)
		}
	}
	v, err := verifier(cfg, secrets)
	if err != nil {
		return nil, configError(err)
	}
	binder, err := identity.NewBinder(p, v, known(cfg), time.Now)
	if err != nil {
		return nil, configError(err)
	}
	binder.Attester = unasked{}
	binder.BelieveLogins(elsewhere{})
	peer, err := p.Peer(pid)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, bindTime)
	defer cancel()
	seen := peer
	id, err := binder.Look(ctx, &peer)
	b := believe(&seen, &id, err)
	b.Claims = id.Claims
	return b, nil
}

// unasked stands where the running sallyport has a SPIFFE agent: it alone is
// one that the agent tells of others.
type unasked struct{}

// Attest implements identity.Attester.
func (unasked) Attest(context.Context, *intercept.Peer) (identity.SVID, error) {
	return identity.SVID{}, errors.New("it needs an SVID (spiffe), which only the running sallyport can ask for: start sallyport whoami in its place")
}
