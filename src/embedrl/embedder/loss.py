"""Symmetric InfoNCE with masked duplicate targets and hard negatives as additional documents."""
# n local queries, N of all processes, M documents, D dim

import torch
from torch import Tensor


def positives(query_ids_N: Tensor, target_ids_N: Tensor, document_ids_M: Tensor) -> Tensor:
    """Return the positive mask, bool (N, M): documents equal to the target of an equal query in the batch."""
    same_query_NN = query_ids_N[:, None] == query_ids_N[None, :]
    is_target_NM = target_ids_N[:, None] == document_ids_M[None, :]
    return (same_query_NN.float() @ is_target_NM.float()) > 0


def symmetric_info_nce(
    query_nD: Tensor, target_nD: Tensor, queries_ND: Tensor, documents_MD: Tensor, positive_NM: Tensor, *, start: int, scale: float
) -> Tensor:
    """L = mean over i of −s(q_i, d_i) + ½ (log Σ_j exp s(q_i, d_j) + log Σ_j exp s(q_j, d_i)), with s the cosine times `scale`.

    Left out of the sums are documents that answer q_i, and queries that d_i answers, other than its own (`positive_NM`). The first N
    documents are the queries' targets, those behind them hard negatives; this process's rows begin at `start`.
    """
    rows = torch.arange(len(query_nD), device=query_nD.device)
    own = rows + start
    to_documents_nM = scale * query_nD @ documents_MD.T
    to_queries_nN = scale * target_nD @ queries_ND.T
    other_nM = positive_NM[own].clone()
    other_nM[rows, own] = False
    other_nN = positive_NM[:, own].T.clone()
    other_nN[rows, own] = False
    partition_n = to_documents_nM.masked_fill(other_nM, -torch.inf).logsumexp(1) + to_queries_nN.masked_fill(
        other_nN, -torch.inf
    ).logsumexp(1)
    return (partition_n / 2 - to_documents_nM[rows, own]).mean()
