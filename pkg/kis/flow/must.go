package flow

import (
	"context"
	"strings"
	"sync"
	"weak"

	"github.com/kisgrid/kisgrid/pkg/definition"
	"github.com/kisgrid/kisgrid/pkg/kis"
	"github.com/kisgrid/kisgrid/pkg/kis/log"
)

// warned holds an ofRegistry for each function whose source.must the log has warned about, so that flows and forks warn once
// together. It does not keep a registry in memory.
var warned sync.Map

// ofRegistry is the key of warned: a function's name, and the registry that the function is registered with.
type ofRegistry struct {
	registry weak.Pointer[kis.Registry]
	function string
}

// leaveMust removes source.must from the documents in b, so that the compiled flow does not check which fields rows have, and
// warns of that once for each function. KisFlow never looked at source.must, and its programs declare it for rows that are plain
// strings. A cluster checks it. The flow's own documents keep it.
func (f *KisFlow) leaveMust(ctx context.Context, b *definition.Bundle) {
	for _, step := range b.Flow.Functions {
		function := b.Functions[step.Name]
		if len(function.Source.Must) == 0 {
			continue
		}
		must := strings.Join(function.Source.Must, ", ")
		function.Source.Must = nil
		key := ofRegistry{registry: weak.Make(f.registry), function: step.Name}
		if _, told := warned.LoadOrStore(key, struct{}{}); !told {
			log.Logger().InfoFX(ctx, "warning: function %s declares source.must (%s), which programs do not check: on a cluster a row without one of these fields ends with MISSING_FIELD. Take out the fields that rows may lack before you move to a cluster", step.Name, must)
		}
	}
}
