package client

import (
	"testing"

	"github.com/kisgrid/kisgrid/internal/transport"
	"github.com/kisgrid/kisgrid/pkg/batch"
)

func TestResolve(t *testing.T) {
	for _, test := range []struct{ target, want string }{
		{"localhost", "dns:///localhost:7700"},
		{"localhost:1234", "dns:///localhost:1234"},
		{" 10.0.0.1 ", "dns:///10.0.0.1:7700"},
		{"::1", "dns:///[::1]:7700"},
		{"[::1]", "dns:///[::1]:7700"},
		{"[::1]:1234", "dns:///[::1]:1234"},
		{"dns:///coordinators:7700", "dns:///coordinators:7700"},
		{"a,b:1234", "kisgrid:///a:7700"},
		{"a,", "dns:///a:7700"},
	} {
		got, _, err := transport.Resolve(test.target)
		if err != nil || got != test.want {
			t.Errorf("%q is dialled as %q (%v), want %q", test.target, got, err, test.want)
		}
	}
	for _, target := range []string{"", " , "} {
		if _, err := Dial(target); batch.CodeOf(err) != batch.CodeUnavailable {
			t.Errorf("dial %q: error is %v, want %s", target, err, batch.CodeUnavailable)
		}
	}
}
