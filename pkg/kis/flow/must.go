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

// warned has the functions whose source.must was spoken of, for each registry: flows and forks share them. It keeps no registry
// alive.
var warned sync.Map // from ofRegistry to nothing

type ofRegistry struct {
	registry weak.Pointer[kis.Registry]
	function string
}

// leaveMust takes source.must out of what is compiled, and says so once for each function. KisFlow never looked at it, and its
// programs declare it over rows that are plain strings; on a cluster it is checked. The documents keep it.
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
			log.Logger().InfoFX(ctx, "warning: function %s declares source.must (%s), which programs do not check: on a cluster a row without one of these fields ends with MISSING_FIELD. Take out what rows may lack before you move there", step.Name, must)
		}
	}
}
