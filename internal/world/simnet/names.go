package simnet

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"
)

// name is the entry of a name.
type name struct {
	addresses []string // in the order in which a lookup returns them
	trouble   NameTrouble
}

// NameTrouble says what is wrong with the lookups of a name.
type NameTrouble struct {
	Delay  time.Duration // how long each lookup takes
	Fails  bool          // the name server answers with a failure, "server misbehaving"
	Silent bool          // the name server does not answer
}

// nameTimeout is how long a lookup waits for a silent name server: two attempts of five seconds, as resolv.conf has it by default.
const nameTimeout = 10 * time.Second

// SetName gives a name these addresses, in place of those that it had. A name without addresses is not found.
func (n *Net) SetName(hostName string, addresses ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := n.entryLocked(hostName)
	e.addresses = append([]string(nil), addresses...)
}

// TroubleName makes lookups of a name slow, or fail. The zero NameTrouble ends it.
func (n *Net) TroubleName(hostName string, trouble NameTrouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entryLocked(hostName).trouble = trouble
}

// entryLocked returns the entry of a name, and adds it if there is none. The caller holds mu.
func (n *Net) entryLocked(hostName string) *name {
	key := canonical(hostName)
	e := n.names[key]
	if e == nil {
		e = &name{}
		n.names[key] = e
	}
	return e
}

// canonical returns a name in the form in which names are compared.
func canonical(hostName string) string { return strings.ToLower(strings.TrimSuffix(hostName, ".")) }

// LookupHost implements network.Network. Every name server has the same names. A machine whose cable is out reaches none.
func (p *Process) LookupHost(ctx context.Context, server, host string) ([]string, error) {
	found, err := p.lookUp(ctx, server, host)
	if ready := p.ready(); ready != nil {
		return nil, ready
	}
	return found, err
}

// lookUp does the work of LookupHost, for a process that is not stopped.
func (p *Process) lookUp(ctx context.Context, server, host string) ([]string, error) {
	if err := p.ready(); err != nil {
		return nil, err
	}
	failed := &net.DNSError{Name: host, Server: server}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{ip.String()}, nil
	}
	key := canonical(host)
	if key == "localhost" {
		return []string{"127.0.0.1", "::1"}, nil
	}
	n := p.host.net
	n.mu.Lock()
	var found []string
	var trouble NameTrouble
	if e := n.names[key]; e != nil {
		found, trouble = append([]string(nil), e.addresses...), e.trouble
	}
	if p.host.down {
		trouble.Silent = true
	}
	n.mu.Unlock()
	delay := trouble.Delay
	if trouble.Silent {
		delay = nameTimeout
	}
	if !wait(ctx.Done(), delay) {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			failed.Err, failed.IsTimeout, failed.IsTemporary = "i/o timeout", true, true
		} else {
			failed.Err, failed.UnwrapErr = "operation was canceled", ctx.Err()
		}
		return nil, failed
	}
	switch {
	case trouble.Silent:
		failed.Err, failed.IsTimeout, failed.IsTemporary = "i/o timeout", true, true
		return nil, failed
	case trouble.Fails:
		failed.Err, failed.IsTemporary = "server misbehaving", true
		return nil, failed
	case len(found) == 0:
		failed.Err, failed.IsNotFound = "no such host", true
		return nil, failed
	}
	return found, nil
}
