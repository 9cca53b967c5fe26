package archtest

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"testing/fstest"
)

// machineNetwork has, for each package of the standard library that reaches the network of the machine, the names by which it does.
var machineNetwork = map[string]*regexp.Regexp{
	"net":        regexp.MustCompile(`^(Dial.*|Listen|Listen(Config|IP|MulticastUDP|Packet|TCP|UDP|Unix|Unixgram)|DefaultResolver|Resolver|Interface(s|Addrs|ByName|ByIndex)|Lookup(Host|IP|Addr|CNAME|MX|NS|SRV|TXT))$`),
	"crypto/tls": regexp.MustCompile(`^(Dial.*|Listen)$`),
	"net/http":   regexp.MustCompile(`^(Default(Client|Transport)|ListenAndServe.*|Get|Head|Post.*)$`),
}

// onMachine lists the packages that may reach the network of the machine by themselves. All others do it through a network.Network.
var onMachine = []string{
	"internal/network",
	"pkg/kis/metrics", // KisFlow's page of metrics, which a user's function opens
	"bench…", "e2e…", "examples/…",
}

// wrongNetworks finds packages that dial, listen, or look names up without a network.Network. Kits for tests may.
func (p project) wrongNetworks() []string {
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if matchesAny(onMachine, name) || matchesAny(kits, name) {
			continue
		}
		for _, f := range p[name] {
			names := map[string]*regexp.Regexp{}
			for _, i := range f.syntax.Imports {
				imported, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
				if reach := machineNetwork[imported]; reach != nil {
					as := path.Base(imported)
					if i.Name != nil {
						as = i.Name.Name
					}
					names[as] = reach
				}
			}
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != nil && names[x.Name].MatchString(s.Sel.Name) {
						wrong = append(wrong, fmt.Sprintf("%s uses %s.%s: reach the network through a network.Network", f.path, x.Name, s.Sel.Name))
					}
				}
				return true
			})
		}
	}
	return wrong
}

func TestNetworkIsReachedThroughNetwork(t *testing.T) {
	p, err := read(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range p.wrongNetworks() {
		t.Error(wrong)
	}
}

// The check of networks must be able to fail.
func TestNetworksCatchWhatTheyAreFor(t *testing.T) {
	source := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("package p\n" + text)} }
	const dials = "import \"net\"\nvar d net.Dialer\nvar a net.Addr\n"
	p, err := read(fstest.MapFS{
		"pkg/a/a.go":                  source(dials),
		"pkg/b/b.go":                  source("import other \"net\"\nvar l, _ = other.Listen(\"\", \"\")\n"),
		"pkg/c/c.go":                  source("import \"net/http\"\nvar g = http.Get\nvar net struct{ Listen int }\nvar _ = net.Listen\n"),
		"internal/network/network.go": source(dials),
		"internal/testgrid/t.go":      source(dials),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, want := p.wrongNetworks(), []string{
		"pkg/a/a.go uses net.Dialer: reach the network through a network.Network",
		"pkg/b/b.go uses other.Listen: reach the network through a network.Network",
		"pkg/c/c.go uses http.Get: reach the network through a network.Network",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
