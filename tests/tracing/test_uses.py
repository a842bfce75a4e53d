# ruff: noqa: E501, PIE, RUF, C4
"""Uses of operations that are easily got wrong: every spec must leave the network as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from deepalign_cli.tracing.pipeline import label
from tests.tracing.quick import Quick, faults

Body = Callable[[Any, Tensor, Tensor], Tensor]


class Net(nn.Module):
    """Two linear layers, a use of what they give and of other parameters, and a layer that reads it."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(6, 8)
        self.w, self.v = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(1, 8))
        self.m, self.e = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.randn(8, 5))
        self.one = nn.Parameter(torch.randn(1))
        self.body = body
        with torch.no_grad():
            x = torch.randn(3, 6)
            y = body(self, self.a(x), self.b(x))
        self.o = nn.Linear(y.flatten(1).shape[1], 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.o(self.body(self, self.a(x), self.b(x)).flatten(1)),)


# fmt: off
USES: dict[str, Body] = {
    "places of a maximum pool": lambda s, a, b: F.max_pool2d(a[:, :, None, None] * torch.arange(16.0).view(4, 4).sin(), 2, return_indices=True)[1].to(a.dtype),
    "places of a maximum": lambda s, a, b: (a[:, :, None] * s.m[0]).max(2)[1].to(a.dtype) + b,
    "tril_add": lambda s, a, b: a@torch.tril(s.m),
    "pow_alpha": lambda s, a, b: torch.add(a,2.0,alpha=3),
    "sub_num": lambda s, a, b: 1-a,
    "where_sc": lambda s, a, b: torch.where(a>0,1.0,0.0),
    "where_b1": lambda s, a, b: torch.where(a[:,:1]>0,a,b),
    "where_c": lambda s, a, b: torch.where(a>0,s.one,s.one*2),
    "where_cw": lambda s, a, b: torch.where(s.w>0,a,b),
    "where_zero": lambda s, a, b: torch.where(a>0,torch.zeros(8),torch.zeros(8))+b,
    "mul0": lambda s, a, b: a*torch.zeros(8)+b,
    "zeros_pow": lambda s, a, b: torch.zeros(8).exp()*a,
    "zerosplus": lambda s, a, b: (torch.zeros(8)+1)*a+torch.zeros(8),
    "uniform_bool": lambda s, a, b: a*torch.full((8,),0.7).bool(),
    "maxall": lambda s, a, b: a/a.max(),
    "sumall": lambda s, a, b: a+s.w.sum(),
    "sum_empty": lambda s, a, b: a+a.sum(dim=()),
    "amax_kw": lambda s, a, b: a.amax(dim=(1,),keepdim=True)*b,
    "std_kw": lambda s, a, b: a/a.std(dim=1,keepdim=True),
    "std_pos": lambda s, a, b: a/a.std(1,False,True),
    "std_bool": lambda s, a, b: a/a.std(False),
    "varT": lambda s, a, b: a/torch.var(a,1,correction=0,keepdim=True),
    "norm1": lambda s, a, b: a/a.norm(dim=1,keepdim=True),
    "norm_p": lambda s, a, b: a/a.norm(1,1,True),
    "cumsum_cast": lambda s, a, b: a.cumsum(1,dtype=torch.float64),
    "index_neg": lambda s, a, b: a[:,torch.tensor([-1,0])],
    "index_mask": lambda s, a, b: a*(torch.tensor([1,0,1,1,0,1,0,1]).bool()),
    "index_bool": lambda s, a, b: a[:,torch.tensor([1,0,1,1,0,1,0,1]).bool()],
    "index_w": lambda s, a, b: s.e[a.argmax(1)],
    "index_wT": lambda s, a, b: s.e.t()[:,a.argmax(1)].t(),
    "index_2": lambda s, a, b: s.m[a.argmax(1),b.argmax(1)][:,None],
    "index_3": lambda s, a, b: s.m[:,a.argmax(1)].t(),
    "index_outer": lambda s, a, b: s.m[torch.arange(8)[:,None],torch.arange(8)[None]]*a[:,None],
    "gather_e": lambda s, a, b: a.gather(1,b.argsort(1)),
    "take": lambda s, a, b: torch.take_along_dim(a,b.argmax(1,keepdim=True),1),
    "expand_v": lambda s, a, b: s.v.expand(3,8)+a,
    "expand_one": lambda s, a, b: s.one.expand(8)*a,
    "expand_col": lambda s, a, b: s.w[:,None].expand(8,4)[None]*a[:,:,None],
    "rep": lambda s, a, b: s.w.repeat(2)*a.repeat(1,2),
    "repint": lambda s, a, b: s.w.repeat_interleave(2)*a.repeat_interleave(2,1),
    "rep_mixed": lambda s, a, b: s.w.repeat(2)*a.repeat_interleave(2,1),
    "cat_empty": lambda s, a, b: torch.cat([a[:,:0],a,b[:,8:]],1),
    "catw": lambda s, a, b: torch.cat([s.w,s.w])*torch.cat([a,b],1),
    "catcross": lambda s, a, b: torch.cat([a,b],1)+torch.cat([b,a],1),
    "cat3": lambda s, a, b: torch.cat([a,a[:,:4]],1)*torch.cat([b[:,:4],b],1),
    "symm": lambda s, a, b: a@(s.m+s.m.t()),
    "skew": lambda s, a, b: a@(s.m-s.m.t()),
    "sq": lambda s, a, b: a@s.m@s.m,
    "mT": lambda s, a, b: a@s.m@s.m.t(),
    "diag": lambda s, a, b: a*s.m.diagonal(),
    "trace": lambda s, a, b: a*s.m.trace(),
    "det": lambda s, a, b: a*torch.linalg.det(s.m),
    "inv": lambda s, a, b: a@torch.linalg.inv(s.m),
    "matexp": lambda s, a, b: a@torch.matrix_exp(s.m*0.1),
    "tri_sum": lambda s, a, b: a+s.m.sum(0)+s.m.sum(1),
    "sm_m": lambda s, a, b: a@s.m.softmax(0),
    "sort_w": lambda s, a, b: a*s.w.sort().values,
    "sort_m": lambda s, a, b: a@s.m.sort(0).values,
    "argsortw": lambda s, a, b: a[:,s.w.argsort()],
    "oneh": lambda s, a, b: F.one_hot(a.argmax(1),8).double()@s.e,
    "eqar": lambda s, a, b: (a.argmax(1)[:,None]==torch.arange(8)).double()*a,
    "max_other": lambda s, a, b: torch.max(a,b),
    "max_dim": lambda s, a, b: a.max(1,keepdim=True)[0]+b,
    "max_idx": lambda s, a, b: a.max(1,keepdim=True)[1]*b,
    "clampT": lambda s, a, b: a.clamp(s.w,s.w+1),
    "clampmin": lambda s, a, b: torch.clamp(a,max=b),
    "clamp0": lambda s, a, b: a.clamp(min=0),
    "addcmul": lambda s, a, b: torch.addcmul(a,b,s.w,value=2),
    "baddbmm": lambda s, a, b: torch.baddbmm(a[:,None,:],b[:,None,:],s.m.expand(3,8,8),beta=.5),
    "addmv": lambda s, a, b: torch.addmv(s.one.expand(3),a,s.w)[:,None],
    "outerw": lambda s, a, b: a@torch.outer(s.w,s.w),
    "kron": lambda s, a, b: torch.cat([a,a],1)@torch.kron(torch.ones(2,1),s.m),
    "biasconv": lambda s, a, b: F.conv1d(a[:,:,None],s.m[:,:,None],s.w)[:,:,0],
    "conv_sp": lambda s, a, b: F.conv1d(a[:,None,:],s.w[None,None,:4],padding=1),
    "conv1x1sp": lambda s, a, b: F.conv1d(a[:,None,:],s.one[None,None,:]),
    "convdep": lambda s, a, b: F.conv1d(a[:,:,None].expand(3,8,4),s.w[:,None,None],groups=8),
    "convT1": lambda s, a, b: F.conv_transpose1d(a[:,:,None],s.m[:,:,None],s.w)[:,:,0],
    "convTg": lambda s, a, b: F.conv_transpose1d(a[:,:,None],s.m[:,:4,None],groups=2)[:,:,0],
    "convg": lambda s, a, b: F.conv1d(a[:,:,None],s.m[:,:4,None],s.w,groups=2)[:,:,0],
    "sdpa_mask": lambda s, a, b: F.scaled_dot_product_attention(a[:,:,None],b[:,:,None],a[:,:,None],attn_mask=s.m)[...,0],
    "sdpa_maskb": lambda s, a, b: F.scaled_dot_product_attention(a[:,:,None],b[:,:,None],a[:,:,None],attn_mask=torch.tril(torch.ones(8,8)).bool())[...,0],
    "sdpa_maskrow": lambda s, a, b: F.scaled_dot_product_attention(a[:,:,None],b[:,:,None],a[:,:,None],attn_mask=s.w[:,None])[...,0],
    "sdpa_scale": lambda s, a, b: F.scaled_dot_product_attention(a[:,None],b[:,None],a[:,None],scale=.3)[:,0],
    "sdpa_heads": lambda s, a, b: F.scaled_dot_product_attention(a.view(3,2,1,4),b.view(3,2,1,4).repeat(1,1,2,1),a.view(3,2,1,4).repeat(1,1,2,1)).flatten(1),
    "sdpa_bcast": lambda s, a, b: F.scaled_dot_product_attention(a.view(3,2,2,2),b.view(3,2,2,2)[:,:1].expand(3,2,2,2),b.view(3,2,2,2)).flatten(1),
    "sdpa_qneg": lambda s, a, b: F.scaled_dot_product_attention(a.view(3,2,2,2),b.view(3,2,2,2)[:,:1],b.view(3,2,2,2)).flatten(1),
    "ln2": lambda s, a, b: F.layer_norm(a.view(3,2,4),(4,),s.w[:4],s.w[4:]),
    "ln1": lambda s, a, b: F.layer_norm(a.view(3,2,4),(2,4),s.w.view(2,4)),
    "lnw": lambda s, a, b: a@F.layer_norm(s.m,(8,)),
    "bnw": lambda s, a, b: F.batch_norm(a,s.w,s.w.abs()+1,s.w,s.w),
    "bntrain": lambda s, a, b: F.batch_norm(a,None,None,s.w,training=True),
    "gn": lambda s, a, b: F.group_norm(a[:,:,None],2,s.w)[:,:,0],
    "inorm": lambda s, a, b: F.instance_norm(a.view(3,4,2),weight=s.w[:4]),
    "lrn": lambda s, a, b: F.local_response_norm(a[:,:,None],3)[:,:,0],
    "prelu1": lambda s, a, b: F.prelu(a,s.one),
    "prelu8": lambda s, a, b: F.prelu(a,s.w),
    "powT": lambda s, a, b: a.abs()**s.w.abs(),
    "pow0": lambda s, a, b: a**0+b,
    "powneg": lambda s, a, b: (a+0)**-3*1e-3+b,
    "pow_base": lambda s, a, b: 2**a,
    "sqrt": lambda s, a, b: a.abs().sqrt(),
    "rms": lambda s, a, b: a/(a**2).mean(1,keepdim=True).sqrt()*s.w,
    "abs_sq": lambda s, a, b: (a*a.abs()),
    "viewdtype": lambda s, a, b: a.view(torch.int64).double()*1e-18+b,
    "flatT": lambda s, a, b: a.view(3,2,4).transpose(1,2).reshape(3,8)*s.w,
    "unf": lambda s, a, b: a.view(3,2,2,2).permute(0,3,2,1).reshape(3,8)+b,
    "selview": lambda s, a, b: a.view(3,2,4)[:,0]*b.view(3,4,2)[:,:,1],
    "selview2": lambda s, a, b: torch.cat([a.view(3,2,4)[:,1],b.view(3,2,4)[:,0]],1)+a,
    "selnested": lambda s, a, b: a.view(3,2,2,2)[:,:,1]+a.view(3,4,2)[:,1:3],
    "strided": lambda s, a, b: a[:,::2]+b[:,1::2],
    "strided3": lambda s, a, b: a[:,::3],
    "sliceneg": lambda s, a, b: a[:,-3:]*b[:,:3],
    "slicew": lambda s, a, b: a*torch.cat([s.w[2:],s.w[:2]]),
    "rollw": lambda s, a, b: a*s.w.roll(1),
    "roll0": lambda s, a, b: a.roll(3),
    "rollm": lambda s, a, b: a@s.m.roll(1,0),
    "rollflat": lambda s, a, b: a@s.m.roll(1),
    "flipm": lambda s, a, b: a@s.m.flip(0,1),
    "topk": lambda s, a, b: a.topk(3,1)[0],
    "topk_kw": lambda s, a, b: a.topk(k=3,dim=-1)[1].double(),
    "kth": lambda s, a, b: a.kthvalue(3)[0][:,None]+b,
    "med": lambda s, a, b: a.median(1)[0][:,None]+b,
    "cummax": lambda s, a, b: a.cummax(1)[0],
    "scatter": lambda s, a, b: torch.zeros(3,8).scatter(1,a.argsort(1),b),
    "scatter_add": lambda s, a, b: torch.zeros(3,5).scatter_add(1,(a>0).long(),b),
    "index_add": lambda s, a, b: torch.zeros(3,8).index_add(1,torch.arange(8).flip(0),a),
    "masked": lambda s, a, b: a.masked_fill(torch.arange(8)>3,0.),
    "maskedw": lambda s, a, b: a.masked_fill(s.w>0,0.),
    "unfold": lambda s, a, b: a.unfold(1,4,2),
    "pad0": lambda s, a, b: F.pad(a,(1,2)),
    "padneg": lambda s, a, b: F.pad(a,(-1,2)),
    "pad1": lambda s, a, b: F.pad(a,(1,2),value=1.),
    "padm": lambda s, a, b: F.pad(a,(0,2))@F.pad(s.m,(0,0,0,2)),
    "einsum": lambda s, a, b: torch.einsum("bi,ij,bj->b",a,s.m,b)[:,None],
    "einsum2": lambda s, a, b: torch.einsum("bi,bi,i->bi",a,b,s.w),
    "einsum3": lambda s, a, b: torch.einsum("bi,jj->bij",a,s.m),
    "einsum4": lambda s, a, b: torch.einsum("bi,jj->bj",a,s.m),
    "tdot": lambda s, a, b: torch.tensordot(a,s.m,([1],[1])),
    "cdist": lambda s, a, b: torch.cdist(a[:,:,None],b[:,:,None]).flatten(1),
    "cos": lambda s, a, b: F.cosine_similarity(a,b,1)[:,None],
    "bce": lambda s, a, b: F.binary_cross_entropy_with_logits(a,b.sigmoid(),reduction='none'),
    "mse": lambda s, a, b: F.mse_loss(a,b).expand(3,1),
    "gumb": lambda s, a, b: a.softmax(1)*b.log_softmax(1),
    "cplx": lambda s, a, b: torch.complex(a,b).abs(),
    "cplx2": lambda s, a, b: torch.view_as_real(torch.view_as_complex(a.view(3,4,2))*torch.view_as_complex(b.view(3,4,2))).flatten(1),
    "fft": lambda s, a, b: torch.fft.rfft(a).abs(),
    "bincmp": lambda s, a, b: ((a>0)&(b>0)).double(),
    "boolsum": lambda s, a, b: (a>0).sum(1,keepdim=True).double()+b,
    "intcast": lambda s, a, b: a.int().double(),
    "meshgrid": lambda s, a, b: torch.meshgrid(s.w,s.w,indexing='ij')[0][None]*a[:,None],
    "bucketize": lambda s, a, b: torch.bucketize(a,torch.linspace(-1,1,5)).double(),
    "searchs": lambda s, a, b: torch.searchsorted(s.w.sort().values,a).double(),
    "emb_scale": lambda s, a, b: F.embedding((a>0).long(),s.m).sum(1),
    "embT": lambda s, a, b: F.embedding(a.argmax(1),s.m.t()),
    "mm_vec": lambda s, a, b: (a@s.w)[:,None],
    "mv": lambda s, a, b: a*torch.mv(s.m,s.w),
    "dot": lambda s, a, b: a*torch.dot(s.w,s.w),
    "vecmat": lambda s, a, b: a*(s.w@s.m),
    "sumkw": lambda s, a, b: a.sum(dim=1,keepdim=True)+b,
    "logs": lambda s, a, b: torch.logsumexp(a,1,keepdim=True)+b,
    "prod": lambda s, a, b: a.prod(1,keepdim=True)+b,
    "anyd": lambda s, a, b: (a>0).any(1,keepdim=True).double()+b,
    "lerp": lambda s, a, b: torch.lerp(a,b,s.w),
    "lerps": lambda s, a, b: torch.lerp(a,b,s.one),
    "muls": lambda s, a, b: a*s.one+s.one,
    "shift": lambda s, a, b: a+s.one,
    "vecb": lambda s, a, b: a+s.v*s.one,
    "neg": lambda s, a, b: -a+b,
    "relu_neg": lambda s, a, b: torch.cat([a.relu(),(-a).relu()],1),
    "absb": lambda s, a, b: a.abs()+a,
    "sin2": lambda s, a, b: a.sin()*a.cos(),
    "hyp": lambda s, a, b: torch.hypot(a,b),
    "ratio": lambda s, a, b: a/(a+b*0+1),
    "div1": lambda s, a, b: 1/(a*a+1),
    "divs": lambda s, a, b: a/s.w,
    "divm": lambda s, a, b: torch.div(a,s.w,rounding_mode='trunc'),
    "rem": lambda s, a, b: a%s.w.abs(),
    "tan2": lambda s, a, b: torch.atan2(a,b),
    "stack": lambda s, a, b: torch.stack([a,b],1).sum(1),
    "stackw": lambda s, a, b: torch.stack([a,b],2)@torch.stack([s.w[:2],s.w[2:4]]),
    "maxpool": lambda s, a, b: F.max_pool1d(a[:,None],2)[:,0],
    "adapt": lambda s, a, b: F.adaptive_avg_pool1d(a[:,None],3)[:,0],
    "lstmlike": lambda s, a, b: torch.cat([p.tanh() for p in a.chunk(4,1)[::-1]],1)+b,
    "bidir": lambda s, a, b: torch.cat([a+b,a.flip(1)],1),
    "copyz": lambda s, a, b: torch.zeros(3,8).copy_(a) if False else torch.zeros(3,8)+a,
    "meanbatch": lambda s, a, b: a-a.mean(0,keepdim=True),
    "corr": lambda s, a, b: (a.t()@b)[None].expand(3,8,8).flatten(1)@s.m.repeat(8,1),
    "gram": lambda s, a, b: a@(s.m.t()@s.m),
    "proj": lambda s, a, b: a-(a@s.w)[:,None]*s.w/(s.w@s.w),
    "house": lambda s, a, b: a@(torch.eye(8)-2*torch.outer(s.w,s.w)/s.w.dot(s.w)),
    "tied_e": lambda s, a, b: (a@s.e)@s.e.t(),
    "wnorm": lambda s, a, b: a@(s.m/s.m.norm(dim=0,keepdim=True)*s.w),
    "snorm": lambda s, a, b: a@(s.m/s.m.norm()),
}
# fmt: on


@pytest.mark.parametrize("name", USES)
def test_what_moves_changes_nothing(name: str, double: None) -> None:
    torch.manual_seed(0)
    net, x = Net(USES[name]).eval(), torch.randn(3, 6)
    wrong, _ = faults(label(Quick(net, x)).spec, net, x)
    assert not wrong
