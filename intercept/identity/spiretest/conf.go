package spiretest

import (
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/spiffe/spire-api-sdk/proto/spire/api/types"
)

func serverConf(s *Spire, port int) string {
	fast := `experimental { cache_reload_interval = "100ms" }`
	if s.o.Slow {
		fast = ""
	}
	return fmt.Sprintf(`server {
	bind_address = "127.0.0.1"
	bind_port = "%d"
	socket_path = %q
	trust_domain = %q
	data_dir = "%[4]s/server"
	log_level = "WARN"
	ca_ttl = "2h"
	default_x509_svid_ttl = "1h"
	%[5]s
}
plugins {
	DataStore "sql" {
		plugin_data {
			database_type = "sqlite3"
			connection_string = "%[4]s/server/datastore.sqlite3"
		}
	}
	NodeAttestor "join_token" { plugin_data {} }
	KeyManager "memory" { plugin_data {} }
}
`, port, s.Server, s.TrustDomain, s.Dir, fast)
}

func agentConf(s *Spire, port int) string {
	var more strings.Builder
	if !s.o.Slow {
		more.WriteString("\t\tsync_interval = \"100ms\"\n")
	}
	if s.Broker != "" {
		fmt.Fprintf(&more, "\t\tbroker {\n\t\t\tsocket_path = %q\n\t\t\tbrokers = [\n", s.Broker)
		for _, id := range s.o.Delegates {
			fmt.Fprintf(&more, `				{ id = %q allowed_reference_types = [{ type_url = "type.googleapis.com/spiffe.broker.WorkloadPIDReference" }] },
`, id)
		}
		more.WriteString("\t\t\t]\n\t\t}\n")
	}
	return fmt.Sprintf(`agent {
	server_address = "127.0.0.1"
	server_port = "%d"
	socket_path = %q
	admin_socket_path = %q
	trust_domain = %q
	trust_bundle_path = "%[5]s/bundle.pem"
	join_token_file = "%[5]s/token"
	data_dir = "%[5]s/agent-data"
	log_level = "INFO"
	authorized_delegates = %[6]s
	experimental {
%[7]s	}
}
plugins {
	NodeAttestor "join_token" { plugin_data {} }
	KeyManager "disk" { plugin_data { directory = "%[5]s/agent-data" } }
	WorkloadAttestor "unix" {
		plugin_data {
			discover_workload_path = true
			workload_size_limit = -1
		}
	}
}
`, port, s.Workload, s.Admin, s.TrustDomain, s.Dir, quoted(s.o.Delegates), more.String())
}

func pemOf(b *types.Bundle) string {
	var out strings.Builder
	for _, c := range b.X509Authorities {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Asn1})
	}
	return out.String()
}
